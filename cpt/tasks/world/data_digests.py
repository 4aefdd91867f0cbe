"""The stated digests of the built-in world's data: a part of every stage's key that costs nothing at `cpt plan`.

Of every task the digest of its first samples, `first_samples`, which a test makes again. Whoever changes what a task
asks, shows or takes for right has to write the new digest here, and runs of before are other work from then on.
"""

from __future__ import annotations

from cpt.common.digests import bytes_digest
from cpt.tasks.fingerprint import samples_fingerprint
from cpt.types import Split, Task

SAMPLES = 32
SPLITS: tuple[Split, ...] = ("train", "test")

DATA: dict[str, str] = {
    "count-colour": "1bdbd8c19ed2882c4adef4c3e8931732",
    "which-row": "e7adbadbff304f002c79fddf7bb7733a",
    "which-column": "63bdd4d9356372d549d9110e30d725f5",
    "relation": "7a1e57e9c57b1aef34f41fc313e822aa",
    "choice": "60178295ede3bc26c83d9e083873f1a2",
    "size": "633a16d1480ded2d1e849c371da0e35b",
    "answerable": "4c499e83d324cbc5c3bfcfa8a26fa14f",
    "name-one": "7ce1bf6daf7a586bf1a13423f37f21a5",
    "exists": "64323d5dd529d4e6cb449195ad424391",
    "colour": "4c3373e76d3682fb3d30dc896f93ca51",
    "shape": "cc86ac755dbb5974966d1c2d519519e3",
    "read-strip": "45d93bc76fe317f7cb63d4a872c6d2ca",
    "larger-digit": "02dd246e768a56eb7f3e7699c0e04a11",
    "sum-digits": "cfd2752580a509cf8a7e3c4f768bfb97",
    "parity": "d84cacf94c84a7e149a761c1fdf25a76",
    "read-digit": "8890386ab859f308b381c753a3ade0ec",
    "arithmetic": "2a117f1e9e975dad5ce943ccce9d0655",
}


def first_samples(task: Task) -> str:
    """Digest of the first `SAMPLES` samples of `SPLITS`; 32 hexadecimal digits."""
    return bytes_digest("".join(samples_fingerprint(task, split, SAMPLES) for split in SPLITS).encode())
