"""Operators of the device's own package, as references on the host.

They are written from the formulas in Ascend/pytorch, docs/zh/api/torch_npu (torch_npu-custom-api),
and give the numbers of plain torch, not those of the device: shapes, results and gradients are
what a program needs to go on. Whatever is not here says so when it is called.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
import torch.nn.functional as F

from . import host_grad
from .kernels import Plan, count
from .settings import load

#: The format of all memory here: ND, as in the enumeration `torch_npu.Format`.
PLAIN_FORMAT = 2
#: What masked scores become (npu_scaled_masked_softmax).
MASKED = -10000.0
_libraries: list[Any] = []


def _axes(x: Any, gamma: Any) -> list[int]:
    return list(range(x.dim() - gamma.dim(), x.dim()))


def npu_rms_norm(input: Any, gamma: Any, epsilon: float = 1e-6) -> Any:
    """Normalise by the root mean square; also return its reciprocal."""
    wide = input.float()
    rstd = torch.rsqrt(wide.pow(2).mean(_axes(input, gamma), keepdim=True) + epsilon)
    return (wide * rstd * gamma.float()).to(input.dtype), rstd


def npu_add_rms_norm(x1: Any, x2: Any, gamma: Any, epsilon: float = 1e-6) -> Any:
    """`npu_rms_norm` of a sum; also return the sum."""
    x = x1 + x2
    return (*npu_rms_norm(x, gamma, epsilon), x)


def npu_add_layer_norm(
    x1: Any,
    x2: Any,
    gamma: Any,
    beta: Any,
    epsilon: float = 1e-5,
    additional_output: bool = False,
) -> Any:
    """Layer norm of a sum; also mean, reciprocal deviation and the sum."""
    x = x1 + x2
    wide, axes = x.float(), _axes(x, gamma)
    variance, mean = torch.var_mean(wide, axes, correction=0, keepdim=True)
    rstd = torch.rsqrt(variance + epsilon)
    return ((wide - mean) * rstd * gamma + beta).to(x.dtype), mean, rstd, x


def npu_deep_norm(
    x: Any, gx: Any, beta: Any, gamma: Any, alpha: float = 0.3, epsilon: float = 1e-6
) -> Any:
    """Layer norm of `alpha * x + gx`: mean, reciprocal deviation and result."""
    wide = (x * alpha + gx).float()
    variance, mean = torch.var_mean(wide, _axes(x, gamma), correction=0, keepdim=True)
    rstd = torch.rsqrt(variance + epsilon)
    return mean, rstd, ((wide - mean) * rstd * gamma + beta).to(x.dtype)


def npu_layer_norm_eval(
    input: Any,
    normalized_shape: Any,
    weight: Any = None,
    bias: Any = None,
    eps: float = 1e-5,
) -> Any:
    """Layer norm without what a backward pass needs."""
    return F.layer_norm(input, normalized_shape, weight, bias, eps)


def npu_group_norm_silu(input: Any, weight: Any, bias: Any, group: int, eps: float = 1e-5) -> Any:
    """SiLU of a group norm; also mean and reciprocal deviation of the groups."""
    grouped = input.float().reshape(input.shape[0], group, -1)
    variance, mean = torch.var_mean(grouped, -1, correction=0)
    out = F.silu(F.group_norm(input, group, weight, bias, eps))
    return out, mean.to(input.dtype), torch.rsqrt(variance + eps).to(input.dtype)


def npu_swiglu(input: Any, dim: int = -1) -> Any:
    """SiLU of the first half times the second."""
    a, b = input.chunk(2, dim)
    return F.silu(a) * b


def npu_geglu(input: Any, dim: int = -1, approximate: int = 1, activate_left: bool = False) -> Any:
    """One half times the GELU of the other; also that GELU."""
    left, right = input.chunk(2, dim)
    active, other = (left, right) if activate_left else (right, left)
    gelu = F.gelu(active, approximate="tanh" if approximate else "none")
    return other * gelu, gelu


def npu_gelu(input: Any, *, approximate: str = "none") -> Any:
    """GELU."""
    return F.gelu(input, approximate=approximate)


def fast_gelu(input: Any) -> Any:
    """GELU by a sigmoid of 1.702 x."""
    return input * torch.sigmoid(1.702 * input)


def npu_silu(input: Any) -> Any:
    """SiLU."""
    return F.silu(input)


def npu_mish(input: Any) -> Any:
    """Mish."""
    return F.mish(input)


def _rotated(x: Any, mode: str) -> Any:
    if mode == "interleave":
        return torch.stack((-x[..., 1::2], x[..., ::2]), -1).flatten(-2)
    a, b = x.chunk(2, -1)
    return torch.cat((-b, a), -1)


def npu_rotary_mul(
    input: Any, r1: Any, r2: Any, rotary_mode: str = "half", rotate: Any = None
) -> Any:
    """Rotary position embedding."""
    turned = _rotated(input, rotary_mode) if rotate is None else input @ rotate
    return (input * r1 + turned * r2).to(input.dtype)


def npu_apply_rotary_pos_emb(
    query: Any, key: Any, cos: Any, sin: Any, layout: str = "BSND", rotary_mode: str = "half"
) -> Any:
    """Rotary position embedding of queries and keys."""
    return tuple(npu_rotary_mul(x, cos, sin, rotary_mode) for x in (query, key))


def npu_scaled_masked_softmax(
    x: Any, mask: Any, scale: float = 1, fixed_triu_mask: bool = False
) -> Any:
    """Softmax of scaled scores, of which those under the mask count next to nothing."""
    if fixed_triu_mask:
        mask = torch.ones(x.shape[-2:], dtype=torch.bool).triu(1)
    return (x * scale).masked_fill(mask.bool(), MASKED).softmax(-1)


def npu_softmax_cross_entropy_with_logits(input: Any, labels: Any) -> Any:
    """Cross entropy with a distribution, by row."""
    return -(labels * input.log_softmax(-1)).sum(-1)


def npu_cross_entropy_loss(
    input: Any,
    target: Any,
    weight: Any = None,
    reduction: str = "mean",
    ignore_index: int = -100,
    label_smoothing: float = 0.0,
    lse_square_scale_for_zloss: float = 0.0,
    return_zloss: bool = False,
) -> Any:
    """Cross entropy; also the logarithms of probabilities, the z loss and the log sums."""
    loss = F.cross_entropy(
        input, target, weight, None, ignore_index, None, reduction, label_smoothing
    )
    log_sum = input.float().logsumexp(-1)
    zloss = lse_square_scale_for_zloss * log_sum.pow(2)
    if reduction == "mean":
        zloss = zloss.mean()
    elif reduction == "sum":
        zloss = zloss.sum()
    total = loss + zloss if return_zloss else loss
    return total, input.log_softmax(-1), zloss, log_sum


def npu_confusion_transpose(
    input: Any, perm: Sequence[int], shape: Sequence[int], transpose_first: bool
) -> Any:
    """Permute and reshape, in either order."""
    if transpose_first:
        return input.permute(perm).reshape(shape)
    return input.reshape(shape).permute(perm).contiguous()


def npu_transpose(input: Any, perm: Sequence[int], require_contiguous: bool = True) -> Any:
    """Permute into new memory."""
    return input.permute(perm).contiguous()


def npu_broadcast(input: Any, size: Sequence[int]) -> Any:
    """Broadcast into new memory."""
    return input.expand(size).contiguous()


def npu_reshape(input: Any, shape: Sequence[int], can_refresh: bool = False) -> Any:
    """Reshape into new memory."""
    return input.reshape(shape).clone()


def npu_slice(input: Any, offsets: Sequence[int], size: Sequence[int]) -> Any:
    """A box out of a tensor."""
    box = tuple(slice(o, o + n) for o, n in zip(offsets, size, strict=True))
    return input[box].clone()


def npu_linear(input: Any, weight: Any, bias: Any = None) -> Any:
    """A linear layer."""
    return F.linear(input, weight, bias)


def npu_bmmV2(input: Any, mat2: Any, output_sizes: Sequence[int]) -> Any:
    """A batched product, reshaped if sizes are given."""
    out = torch.matmul(input, mat2)
    return out.reshape(output_sizes) if len(output_sizes) else out


def npu_conv2d(
    input: Any, weight: Any, bias: Any, stride: Any, padding: Any, dilation: Any, groups: int
) -> Any:
    """A convolution."""
    return F.conv2d(input, weight, bias, stride, padding, dilation, groups)


def npu_max(input: Any, dim: int, keepdim: bool = False) -> Any:
    """The maximum along a dimension; the indices are 32 bit."""
    values, indices = input.max(dim, keepdim)
    return values, indices.int()


def npu_min(input: Any, dim: int, keepdim: bool = False) -> Any:
    """The minimum along a dimension; the indices are 32 bit."""
    values, indices = input.min(dim, keepdim)
    return values, indices.int()


def npu_format_cast(
    input: Any, acl_format: int, *, customize_dtype: Any = None, input_dtype: Any = None
) -> Any:
    """Another memory format: there is one here."""
    return input.clone()


def npu_moe_gating_top_k_softmax(x: Any, finished: Any = None, k: int = 1) -> Any:
    """The gates of a mixture of experts: weights, experts and rows."""
    weights, experts = x.softmax(-1).topk(k, -1)
    experts = experts.int()
    if finished is not None:
        experts = experts.masked_fill(finished.unsqueeze(-1), x.shape[-1])
    rows = torch.arange(x.shape[:-1].numel() * k, dtype=torch.int32)
    return weights, experts, rows.view(k, -1).t().reshape(experts.shape).contiguous()


_ACTIVATIONS: dict[str, Callable[..., Any]] = {
    "gelu": F.gelu,
    "fastgelu": fast_gelu,
    "relu": F.relu,
    "silu": F.silu,
}


def npu_ffn(
    x: Any, weight1: Any, weight2: Any, activation: str, *, bias1: Any = None, bias2: Any = None
) -> Any:
    """Two linear layers without experts."""
    hidden = x @ weight1 + (bias1 if bias1 is not None else 0)
    return _ACTIVATIONS[activation](hidden) @ weight2 + (bias2 if bias2 is not None else 0)


# Attention --------------------------------------------------------------------------------------


def _heads(x: Any, layout: str, count: int) -> Any:
    """Any layout as batch, heads, sequence, width."""
    if layout == "BNSD":
        return x
    if layout == "BSND":
        return x.transpose(1, 2)
    if layout == "SBH":
        x = x.transpose(0, 1)
    elif layout != "BSH":
        raise NotImplementedError(f"the input layout {layout} is not simulated")
    b, s, h = x.shape
    return x.reshape(b, s, count, h // count).transpose(1, 2)


def _back(x: Any, layout: str) -> Any:
    if layout == "BNSD":
        return x
    x = x.transpose(1, 2)
    if layout == "BSND":
        return x.contiguous()
    x = x.flatten(2)
    return x.transpose(0, 1).contiguous() if layout == "SBH" else x


def _hidden(q: int, k: int, mode: int, mask: Any, before: int, after: int) -> Any:
    """Which scores are left out; None for none of them."""
    rows, columns = torch.arange(q).unsqueeze(1), torch.arange(k).unsqueeze(0)
    if mode == 2:
        return columns > rows
    if mode == 3:
        return columns > rows + (k - q)
    if mode == 4:
        shifted = rows + (k - q)
        return (columns > shifted + after) | (columns < shifted - before)
    if mode not in (0, 1):
        raise NotImplementedError(f"sparse_mode {mode} is not simulated")
    if mask is None:
        return None
    hidden = mask.bool()
    if mode == 0:
        hidden = hidden | (columns > rows + after) | (columns < rows - before)
    return hidden


def _attend(
    q: Any, k: Any, v: Any, scale: float, hidden: Any, extra: Any = None, keep: float = 1.0
) -> tuple[Any, Any]:
    """Attention over heads; keys and values may have fewer."""
    groups = q.shape[1] // k.shape[1]
    if groups > 1:
        k, v = k.repeat_interleave(groups, 1), v.repeat_interleave(groups, 1)
    scores = (q.float() @ k.float().transpose(-1, -2)) * scale
    if extra is not None:
        scores = scores + extra.float()
    if hidden is not None:
        scores = scores.masked_fill(hidden, -math.inf)
    weights = scores.softmax(-1).nan_to_num()
    if keep < 1:
        weights = F.dropout(weights, 1 - keep)
    return (weights @ v.float()).to(q.dtype), scores


def npu_fusion_attention(
    query: Any, key: Any, value: Any, head_num: int, input_layout: str, pse: Any = None,
    padding_mask: Any = None, atten_mask: Any = None, scale: float = 1.0, keep_prob: float = 1.0,
    pre_tockens: int = 2147483647, next_tockens: int = 2147483647, inner_precise: int = 0,
    prefix: Any = None, actual_seq_qlen: Any = None, actual_seq_kvlen: Any = None,
    sparse_mode: int = 0, **_: Any,
) -> Any:  # fmt: skip
    """Attention for training: the result, and what its backward pass keeps."""
    q = _heads(query, input_layout, head_num)
    width = q.shape[-1]
    kv = key.shape[1 if input_layout == "BNSD" else 2]
    kv_heads = kv if input_layout in ("BNSD", "BSND") else kv // width
    k, v = (_heads(x, input_layout, kv_heads) for x in (key, value))
    hidden = _hidden(q.shape[2], k.shape[2], sparse_mode, atten_mask, pre_tockens, next_tockens)
    out, scores = _attend(q, k, v, scale, hidden, pse, keep_prob)
    top = scores.detach().amax(-1, keepdim=True)
    total = (scores.detach() - top).exp().sum(-1, keepdim=True)
    kept = [x.expand(*x.shape[:-1], 8).contiguous() for x in (top, total)]
    return _back(out, input_layout), *kept, torch.empty(0), 0, 0, 0


def npu_prompt_flash_attention(
    query: Any, key: Any, value: Any, *, padding_mask: Any = None, atten_mask: Any = None,
    pse_shift: Any = None, num_heads: int = 1, scale_value: float = 1.0,
    pre_tokens: int = 2147483647, next_tokens: int = 0, input_layout: str = "BSH",
    num_key_value_heads: int = 0, sparse_mode: int = 0, **_: Any,
) -> Any:  # fmt: skip
    """Attention for the prompt of a generation."""
    q = _heads(query, input_layout, num_heads)
    k, v = (_heads(x, input_layout, num_key_value_heads or num_heads) for x in (key, value))
    mask = atten_mask
    hidden = _hidden(q.shape[2], k.shape[2], sparse_mode, mask, pre_tokens, next_tokens)
    out, _scores = _attend(q, k, v, scale_value, hidden, pse_shift)
    return _back(out, input_layout)


def npu_incre_flash_attention(
    query: Any, key: Any, value: Any, *, padding_mask: Any = None, atten_mask: Any = None,
    pse_shift: Any = None, num_heads: int = 1, scale_value: float = 1.0,
    input_layout: str = "BSH", num_key_value_heads: int = 0, **_: Any,
) -> Any:  # fmt: skip
    """Attention for one more token of a generation."""
    q = _heads(query, input_layout, num_heads)
    k, v = (_heads(x, input_layout, num_key_value_heads or num_heads) for x in (key, value))
    hidden = atten_mask.bool() if atten_mask is not None else None
    out, _scores = _attend(q, k, v, scale_value, hidden, pse_shift)
    return _back(out, input_layout)


#: The operators by name, with their overload; the table has their schemas.
REFERENCES: dict[str, Callable[..., Any]] = {
    "fast_gelu": fast_gelu,
    "npu_add_layer_norm": npu_add_layer_norm,
    "npu_add_rms_norm": npu_add_rms_norm,
    "npu_apply_rotary_pos_emb": npu_apply_rotary_pos_emb,
    "npu_bmmV2": npu_bmmV2,
    "npu_broadcast": npu_broadcast,
    "npu_confusion_transpose": npu_confusion_transpose,
    "npu_conv2d": npu_conv2d,
    "npu_cross_entropy_loss": npu_cross_entropy_loss,
    "npu_deep_norm": npu_deep_norm,
    "npu_fast_gelu": fast_gelu,
    "npu_ffn": npu_ffn,
    "npu_format_cast": npu_format_cast,
    "npu_fusion_attention": npu_fusion_attention,
    "npu_geglu": npu_geglu,
    "npu_gelu": npu_gelu,
    "npu_group_norm_silu": npu_group_norm_silu,
    "npu_incre_flash_attention": npu_incre_flash_attention,
    "npu_layer_norm_eval": npu_layer_norm_eval,
    "npu_linear": npu_linear,
    "npu_max.dim": npu_max,
    "npu_min.dim": npu_min,
    "npu_mish": npu_mish,
    "npu_moe_gating_top_k_softmax": npu_moe_gating_top_k_softmax,
    "npu_prompt_flash_attention": npu_prompt_flash_attention,
    "npu_reshape": npu_reshape,
    "npu_rms_norm": npu_rms_norm,
    "npu_rotary_mul": npu_rotary_mul,
    "npu_scaled_masked_softmax": npu_scaled_masked_softmax,
    "npu_silu": npu_silu,
    "npu_slice": npu_slice,
    "npu_softmax_cross_entropy_with_logits": npu_softmax_cross_entropy_with_logits,
    "npu_swiglu": npu_swiglu,
    "npu_transpose": npu_transpose,
}


def _kernel(op: Any, reference: Callable[..., Any]) -> Callable[..., Any]:
    plan = Plan(op)

    def kernel(*args: Any, **kwargs: Any) -> Any:
        count(plan)
        n, names = len(args), tuple(kwargs)

        def call(*host: Any) -> Any:
            return reference(*host[:n], **dict(zip(names, host[n:], strict=True)))

        return host_grad.apply(call, [*args, *kwargs.values()])

    return kernel


def install(module: Any) -> None:
    """Add the operators to the package and to `torch.ops`."""
    names = load().names
    library = torch.library.Library("npu", "DEF")
    _libraries.append(library)
    for name, reference in REFERENCES.items():
        known = names.get(f"npu::{name}")
        if known is None:
            continue
        library.define(f"{name}{known[1]}")
        base, _, overload = name.partition(".")
        packet = getattr(torch.ops.npu, base)
        op = getattr(packet, overload or "default")
        library.impl(name, _kernel(op, reference), "CompositeImplicitAutograd")
        setattr(module, base, packet)
    module.get_npu_format = lambda tensor: PLAIN_FORMAT
    module.npu_dtype_cast = lambda input, dtype, input_dtype=None: input.to(dtype)
