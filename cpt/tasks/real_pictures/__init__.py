"""Real pictures without a download site: what packages of the operating system and of Python bring, as files of the
shapes that labs have. `cpt data pictures` writes them; recipes/tasks/real-pictures.yaml has tasks over them."""
