"""A file to frames: one interface, whatever decodes."""

from vidssl.data.decode.open import open_video as open_video
