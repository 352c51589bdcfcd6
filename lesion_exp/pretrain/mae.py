"""A masked autoencoder: a vision transformer encodes some patches of an image, a decoder reconstructs the rest."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, ClassVar, Final

import torch
from torch import Tensor, nn
from torch.nn import functional

from lesion_exp.errors import ConfigError
from lesion_exp.pretrain.method import BodyFacts, Method, Progress, without_autocast

PACKAGE: Final = "lightly"


class MAE(Method):
    """Mean square error of the pixels of patches that the encoder has not seen.

    The encoder sees a random share of 1 - `mask_ratio` of the patches; a small decoder gets its outputs, and a mask
    token for each other patch (He et al. 2021, arXiv:2111.06377). The method needs little augmentation:
    augmentation=light suits it.

    Args:
        facts: the properties of the body.
        mask_ratio: share of the patches that are masked, above 0 and below 1.
        decoder_dim: width of the decoder, a multiple of `decoder_heads`.
        decoder_depth: blocks of the decoder.
        decoder_heads: attention heads of the decoder.
        normalize_patches: whether the wanted pixels of each patch are standardised by their own mean and deviation.

    Raises:
        ConfigError: a value is out of range.
    """

    num_views = 1
    least_images: ClassVar[int] = 1
    draws_numbers: ClassVar[bool] = True

    def __init__(
        self,
        facts: BodyFacts,
        mask_ratio: float = 0.75,
        decoder_dim: int = 128,
        decoder_depth: int = 4,
        decoder_heads: int = 4,
        normalize_patches: bool = True,
    ) -> None:
        super().__init__()
        if not 0 < mask_ratio < 1:
            raise ConfigError(f"expected pretrain.mask_ratio above 0 and below 1, got {mask_ratio}; 0.75 is usual")
        if decoder_dim % decoder_heads or decoder_dim % 4:
            fitting = 4 * decoder_heads * max(decoder_dim // (4 * decoder_heads), 1)
            raise ConfigError(
                f"expected pretrain.decoder_dim to be a multiple of pretrain.decoder_heads={decoder_heads} and of 4, "
                f"got {decoder_dim}; set pretrain.decoder_dim={fitting}"
            )
        self.facts = facts
        self.mask_ratio = mask_ratio
        self.normalize_patches = normalize_patches
        self._decoder_shape = (decoder_dim, decoder_depth, decoder_heads)
        self._encoder: list[Any] = []  # in a list, because its weights belong to the network already

    def attach(self, body: nn.Module) -> None:
        """Makes the decoder for the patches of `body`.

        Raises:
            ConfigError: `body` is not a vision transformer of timm, or has too few patches.
        """
        vit = _vision_transformer(body)
        from lightly.models.modules.masked_vision_transformer_decoder_timm import MaskedVisionTransformerDecoderTIMM
        from lightly.models.modules.masked_vision_transformer_timm import MaskedVisionTransformerTIMM

        random = self.facts.starts_random
        encoder = MaskedVisionTransformerTIMM(
            vit=vit,
            weight_initialization="" if random else "skip",
            pos_embed_initialization="sincos" if random else "skip",
        )
        patches, prefix = int(vit.patch_embed.num_patches), int(vit.num_prefix_tokens)
        if not 1 <= round(patches * (1 - self.mask_ratio)) < patches:
            raise ConfigError(
                f"expected enough patches for pretrain.mask_ratio={self.mask_ratio}, got {patches} at image_size="
                f"{self.facts.image_size}; set a larger image_size"
            )
        dim, depth, heads = self._decoder_shape
        self._encoder = [encoder]
        self.patch = int(vit.patch_embed.patch_size[0])
        self.prefix = prefix
        self.embed = nn.Linear(int(vit.embed_dim), dim)
        self.decoder = MaskedVisionTransformerDecoderTIMM(patches, dim, depth, heads, num_prefix_tokens=prefix)
        self.pixels = nn.Linear(dim, self.patch**2 * int(vit.patch_embed.proj.in_channels))
        if getattr(vit, "fc_norm", None) is not None:
            vit.fc_norm.requires_grad_(False)  # it comes after the pooling of patches, which this method never does

    def loss(self, body: nn.Module, views: Sequence[Tensor], progress: Progress) -> Tensor:
        """See `Method.loss`."""
        from lightly.models import utils

        images = views[0]
        encoder = self._encoder[0]
        length = encoder.sequence_length
        kept, masked = _token_mask(len(images), length, self.prefix, self.mask_ratio, images.device)
        seen = self.embed(encoder.encode(images, idx_keep=kept))
        tokens = self.decoder.mask_token.expand(len(images), length, -1).to(seen.dtype)
        tokens = utils.set_at_index(tokens.contiguous(), kept, seen)
        decoded = self.decoder(tokens)
        drawn = self.pixels(utils.get_at_index(decoded, masked)).float()
        with without_autocast(images.device):
            wanted = utils.get_at_index(utils.patchify(images.contiguous(), self.patch), masked - self.prefix).float()
            if self.normalize_patches:
                wanted = (wanted - wanted.mean(-1, keepdim=True)) / (wanted.var(-1, keepdim=True) + 1e-6).sqrt()
            return functional.mse_loss(drawn, wanted)


def _token_mask(num_images: int, length: int, prefix: int, ratio: float, device: torch.device) -> tuple[Tensor, Tensor]:
    """Returns the positions of the tokens that are kept, int64 (N, K), and of those that are masked, int64 (N, M).

    Tokens in front of the patches (the class token, registers) are always kept.
    """
    noise = torch.rand(num_images, length - prefix, device=device)
    order = noise.argsort(dim=1) + prefix
    num_kept = max(round((length - prefix) * (1 - ratio)), 1)
    first = torch.arange(prefix, device=device).expand(num_images, -1)
    return torch.cat([first, order[:, :num_kept]], dim=1), order[:, num_kept:]


def _vision_transformer(body: nn.Module) -> Any:
    """Returns the vision transformer of timm in `body`.

    Raises:
        ConfigError: `body` has no such network.
    """
    network = getattr(body, "network", body)
    try:
        from timm.models.vision_transformer import VisionTransformer
    except ModuleNotFoundError:
        found = False
    else:
        found = isinstance(network, VisionTransformer)
    if not found:
        raise ConfigError(
            f"expected a vision transformer of timm for pretrain=mae, which masks its patches, got "
            f"{type(network).__name__}; use backbone=timm backbone.name=vit_tiny_patch16_224, or another method, such "
            f"as pretrain=simclr"
        )
    return network
