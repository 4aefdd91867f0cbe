"""Rollouts: completions sampled by inference engines that hold the trainer's latest weights.

- `pool`: the driver's and the trainer's handle on all engines: push weights, generate, survive an engine's death
- `engine`: what an engine is; what all kinds of engine share
- `engine_vllm`, `engine_hf`: the two kinds
- `choose`: a random stream per completion
- `sync`: weights on their way from the trainer to the engines
- `trl`: the pool behind TRL's trainers; time per phase of a step
- `threads`: threads and waiting policy of trainer and engines on few cores
- `encode`: chats to token ids
"""
