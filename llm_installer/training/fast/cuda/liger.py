"""Liger's Triton kernels for a CUDA device: those of its functions that do not wait for the device.

Delete when transformers applies them by itself without changing its modules for every model of the process, as its
`use_liger_kernel` does.
"""

from __future__ import annotations

import torch
from torch import Tensor

from llm_installer.training.fast.cross_entropy import IGNORED, LogitRule
from llm_installer.training.fast.kernel_set import FAILURES, Kernels


def load_kernels() -> Kernels:
    """The library's own functions, whatever the device."""
    from liger_kernel.ops.cross_entropy import MAX_FUSED_SIZE, liger_cross_entropy_kernel, triton
    from liger_kernel.ops.geglu import LigerGELUMulFunction
    from liger_kernel.ops.rms_norm import LigerRMSNormFunction
    from liger_kernel.ops.rope import LigerRopeFunction
    from liger_kernel.ops.swiglu import LigerSiLUMulFunction

    def norm(x: Tensor, weight: Tensor, epsilon: float, offset: float, casting: str) -> Tensor:
        # Not in place: where a norm stands after a layer, the residual beside it is given the same gradient.
        result: Tensor = LigerRMSNormFunction.apply(x, weight, epsilon, offset, casting, False)
        return result

    def score(logits: Tensor, targets: Tensor, rule: LogitRule, wanted: bool) -> Tensor:
        """Liger's own functions around this kernel wait for the device; the kernel itself does not."""
        if rule.scale != 1.0:
            logits.mul_(rule.scale)
        rows, vocabulary = logits.shape
        losses = logits.new_zeros(rows, dtype=torch.float32)  # the kernel writes none for a target of IGNORED
        liger_cross_entropy_kernel[(rows,)](
            X_ptr=logits, X_stride=logits.stride(0), Y_ptr=targets, Y_stride=targets.stride(0),
            loss_ptr=losses, loss_stride=1, n_cols=vocabulary, n_non_ignore=rows, ignore_index=IGNORED,
            weight_ptr=None, sum_non_ignore_weight=rows, weight_sum=0.0, HAS_WEIGHT=False,
            z_loss_ptr=None, RETURN_Z_LOSS=False, lse_square_scale=0.0, label_smoothing=0.0, reduction="sum",
            token_accuracy_ptr=None, token_accuracy_stride=0, RETURN_TOKEN_ACCURACY=False,
            predicted_tokens_ptr=None, predicted_tokens_stride=0, RETURN_PREDICTED_TOKENS=False,
            softcap=rule.softcap, HAS_SOFTCAPPING=rule.softcap is not None, HAS_GRADIENTS=wanted,
            BLOCK_SIZE=min(MAX_FUSED_SIZE, triton.next_power_of_2(vocabulary)),
            num_warps=16 if torch.version.hip else 32,
        )  # fmt: skip
        if wanted and rule.scale != 1.0:
            logits.mul_(rule.scale)
        return losses.sum()

    gates = {"silu": LigerSiLUMulFunction.apply, "tanh": LigerGELUMulFunction.apply}
    failures = (*FAILURES, triton.TritonError)
    return Kernels("liger's kernels", norm, gates, LigerRopeFunction.apply, score, failures, ignores=True)
