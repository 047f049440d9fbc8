"""Ways to run MobileSAM's image encoder on a CPU, for `runtimes.py`."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch
from timm.models.tiny_vit import Attention, ConvNorm
from torch import Tensor, nn

Runner = Callable[[Tensor], Tensor]
REFERENCE = "eager"


@dataclass(frozen=True)
class Candidate:
    """One way to run the encoder.

    Attributes:
        load: makes the runner from the encoder or from the artifact that `export` left in the folder.
        export: writes the artifact into the folder, or None where there is none.

    """

    load: Callable[[nn.Module, Path], Runner]
    export: Callable[[nn.Module, Tensor, Path], None] | None = None


# --- changes to the eager encoder


def fold_batch_norms(module: nn.Module) -> nn.Module:
    """Replace every convolution with batch normalisation by one convolution, in place."""
    for name, child in module.named_children():
        if isinstance(child, ConvNorm):
            setattr(module, name, child.fuse().requires_grad_(False))
        else:
            fold_batch_norms(child)
    return module


def keep_flash_biases(encoder: nn.Module, device: str = "cpu") -> nn.Module:
    """Store the attention biases as `(1, heads, N, N)`, in place.

    PyTorch's fused attention on a CPU takes masks of 2 or 4 dimensions; for timm's `(heads, N, N)` it falls back to
    separate products and a guarded softmax. Moving or casting the module forgets the stored biases: call this last.
    """
    for module in encoder.modules():
        if isinstance(module, Attention):
            biases = module.attention_biases[:, module.attention_bias_idxs]
            module.attention_bias_cache[device] = biases[None].contiguous()
    return encoder


def prepare(encoder: nn.Module, dtype: torch.dtype = torch.float32, channels_last: bool = False) -> nn.Module:
    """Fold, cast and reorder the encoder, and store its biases."""
    encoder = fold_batch_norms(encoder).to(dtype)
    if channels_last:
        encoder = encoder.to(memory_format=torch.channels_last)
    return keep_flash_biases(encoder)


class InBfloat16(nn.Module):
    """An encoder in bfloat16 behind a float32 interface."""

    def __init__(self, encoder: nn.Module) -> None:
        """Cast the encoder."""
        super().__init__()
        self.encoder = prepare(encoder, torch.bfloat16, channels_last=True)

    def forward(self, image: Tensor) -> Tensor:
        """Encode a batch of images."""
        return self.encoder(image.bfloat16()).float()


# --- candidates


def _explicit(encoder: nn.Module, _: Path) -> Runner:
    for module in encoder.modules():
        if isinstance(module, Attention):
            module.fused_attn = False
    return encoder


def _uncached(encoder: nn.Module, _: Path) -> Runner:
    caches = [module.attention_bias_cache for module in encoder.modules() if isinstance(module, Attention)]

    def run(image: Tensor) -> Tensor:
        for cache in caches:
            cache.clear()
        return encoder(image)

    return run


def _channels_last(encoder: nn.Module) -> Runner:
    encoder = encoder.to(memory_format=torch.channels_last)
    return lambda image: encoder(image.contiguous(memory_format=torch.channels_last))


def _prepared_last(encoder: nn.Module, _: Path) -> Runner:
    encoder = prepare(encoder, channels_last=True)
    return lambda image: encoder(image.contiguous(memory_format=torch.channels_last))


def _autocast(encoder: nn.Module, _: Path) -> Runner:
    def run(image: Tensor) -> Tensor:
        with torch.autocast("cpu", torch.bfloat16):
            return encoder(image).float()

    return run


def _implicit_bfloat16(encoder: nn.Module, _: Path) -> Runner:
    """Float32 tensors, oneDNN's products in bfloat16."""
    encoder = prepare(encoder, channels_last=True)

    def run(image: Tensor) -> Tensor:
        torch.backends.mkldnn.conv.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "bf16"
        try:
            return encoder(image)
        finally:
            torch.backends.mkldnn.conv.fp32_precision = torch.backends.mkldnn.matmul.fp32_precision = "none"

    return run


def _export_script(encoder: nn.Module, image: Tensor, folder: Path) -> None:
    frozen = torch.jit.freeze(torch.jit.trace(prepare(encoder), image, check_trace=False))
    torch.jit.save(frozen, folder / "encoder.pt")


def _load_script(_: nn.Module, folder: Path) -> Runner:
    return torch.jit.optimize_for_inference(torch.jit.load(folder / "encoder.pt").eval())


def _compiled(cast: Callable[[nn.Module], nn.Module], options: dict[str, object]) -> Candidate:
    def load(encoder: nn.Module, folder: Path) -> Runner:
        os.environ["TORCHINDUCTOR_CACHE_DIR"] = str(folder / "inductor")
        return torch.compile(cast(encoder), dynamic=False, options=options)

    def export(encoder: nn.Module, image: Tensor, folder: Path) -> None:
        load(encoder, folder)(image)

    return Candidate(load, export)


def _packaged(cast: Callable[[nn.Module], nn.Module], options: dict[str, object]) -> Candidate:
    def export(encoder: nn.Module, image: Tensor, folder: Path) -> None:
        program = torch.export.export(cast(encoder), (image,))
        package = str(folder / "encoder.pt2")
        torch._inductor.aoti_compile_and_package(program, package_path=package, inductor_configs=options)

    def load(_: nn.Module, folder: Path) -> Runner:
        return torch._inductor.aoti_load_package(str(folder / "encoder.pt2"))

    return Candidate(load, export)


def _export_onnx(encoder: nn.Module, image: Tensor, folder: Path) -> None:
    program = torch.onnx.export(prepare(encoder), (image,), dynamo=True, verbose=False)
    program.save(str(folder / "encoder.onnx"))


def _load_onnxruntime(_: nn.Module, folder: Path) -> Runner:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    session = onnxruntime.InferenceSession(folder / "encoder.onnx", options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return lambda image: torch.from_numpy(session.run(None, {name: image.numpy()})[0])


def _export_openvino(encoder: nn.Module, image: Tensor, folder: Path) -> None:
    import openvino

    model = openvino.convert_model(prepare(encoder), example_input=image, input=list(image.shape))
    openvino.save_model(model, folder / "encoder.xml", compress_to_fp16=False)


def _openvino(precision: str) -> Candidate:
    def load(_: nn.Module, folder: Path) -> Runner:
        import openvino

        settings = {
            "INFERENCE_PRECISION_HINT": precision,
            "PERFORMANCE_HINT": "LATENCY",
            "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            "CACHE_DIR": str(folder / "cache"),
        }
        request = openvino.Core().compile_model(folder / "encoder.xml", "CPU", settings).create_infer_request()
        # The result lies in the request's own memory until the next frame.
        return lambda image: torch.from_numpy(request.infer([image.numpy()], share_inputs=True)[0])

    return Candidate(load, _export_openvino)


CANDIDATES: dict[str, Candidate] = {
    REFERENCE: Candidate(lambda encoder, _: encoder),
    "eager, biases not cached": Candidate(_uncached),
    "eager, explicit attention": Candidate(_explicit),
    "eager, flash attention": Candidate(lambda encoder, _: keep_flash_biases(encoder)),
    "eager, folded": Candidate(lambda encoder, _: fold_batch_norms(encoder)),
    "eager, channels last": Candidate(lambda encoder, _: _channels_last(encoder)),
    "eager, folded + flash": Candidate(lambda encoder, _: prepare(encoder)),
    "eager, folded + flash + channels last": Candidate(_prepared_last),
    "eager, bf16 autocast": Candidate(_autocast),
    "eager, all + bf16 autocast": Candidate(lambda encoder, _: _autocast(prepare(encoder, channels_last=True), _)),
    "eager, all + implicit bf16": Candidate(_implicit_bfloat16),
    "eager, all + bf16 weights": Candidate(lambda encoder, _: InBfloat16(encoder)),
    "torch.jit frozen": Candidate(_load_script, _export_script),
    "torch.compile": _compiled(prepare, {}),
    "torch.compile frozen": _compiled(prepare, {"freezing": True}),
    "torch.compile frozen bf16": _compiled(InBfloat16, {"freezing": True}),
    "AOTInductor": _packaged(prepare, {}),
    "AOTInductor frozen": _packaged(prepare, {"freezing": True}),
    "AOTInductor frozen bf16": _packaged(InBfloat16, {"freezing": True}),
    "ONNX Runtime": Candidate(_load_onnxruntime, _export_onnx),
    "OpenVINO f32": _openvino("f32"),
    "OpenVINO bf16": _openvino("bf16"),
}
