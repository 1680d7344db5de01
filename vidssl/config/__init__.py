"""What a recipe says (configs/*.yaml), validated before anything is loaded.

The lower floors never see a config object; the training floor hands its fields on as ordinary arguments.
"""

from vidssl.config.loading import find_config, load_config, validate_config
from vidssl.config.recipe import Config, TrainConfig

__all__ = ["Config", "TrainConfig", "find_config", "load_config", "validate_config"]
