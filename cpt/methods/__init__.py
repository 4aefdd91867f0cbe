"""Algorithms that are added to a method, one short file each. No trl, vllm or ray in here."""
