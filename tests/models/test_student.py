from __future__ import annotations

import torch

import vidssl
from vidssl.models.student import Student


@torch.no_grad()
def test_views_of_unlike_frames_and_sizes_are_encoded_as_if_alone(tiny_clip):
    """Places and times are interpolated for each; more frames than the time embedding has rows are no obstacle."""
    encoder = vidssl.create_model(f"local-dir:{tiny_clip}").eval()
    for parameter in encoder.temporal.parameters():  # otherwise attention over time adds nothing yet
        parameter.add_(0.05 * torch.randn(parameter.shape, generator=torch.Generator().manual_seed(0)))
    encoder.time_embedding.normal_(generator=torch.Generator().manual_seed(1))
    shapes = [(8, 32), (2, 16), (8, 32), (16, 16), (4, 24), (2, 16)]
    generator = torch.Generator().manual_seed(2)
    views = [torch.randn(3, 3, frames, size, size, generator=generator) for frames, size in shapes]
    together = Student(encoder, {}).eval()(views).features
    for view, features in zip(views, together, strict=True):
        alone = encoder(view)
        torch.testing.assert_close(features.clip, alone.clip, atol=1e-5, rtol=0)
        assert features.frames.shape == alone.frames.shape == (3, view.shape[2], 32)
