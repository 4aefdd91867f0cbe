"""An LLM judge over recorded completions: rubric, questions, who is asked, what it replied, and scores from that.

- `rubric`, `rubrics/`: what is asked and how a reply is read; `reply`: the reading
- `questions`: records become prompts for the judge
- `endpoint`, `local`: who is asked; `asked`: what both take and give
- `files`: judgements on disk; `judging`: all of it together
- `scores`: means, AP and BWT of judged completions
"""
