"""Rollouts: completions sampled by inference engines that hold the trainer's latest weights.

- `pool`: the driver's and the trainer's handle on all engines: push weights, generate, survive an engine's death
- `engine`: what an engine is; what all kinds of engine share
- `engine_vllm`, `engine_hf`: the two kinds
- `choose`: a random stream per completion; `scoring`: which texts are scored together
- `local`, `limits`: which kind, and what prompts and pictures it takes
- `sync`: weights on their way from the trainer to the engines
- `sampler`, `sampling`: completions of a policy in training; the distribution that trainer and engines agree on
- `agreement`: whether engines and transformers mean the same policy
- `timing`: where the time of an optimizer step goes
- `threads`: threads and waiting policy of trainer and engines on few cores
- `encode`: chats to token ids
"""
