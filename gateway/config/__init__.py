"""The configuration: read from YAML, strict, with every mistake told by file, line, field, value and remedy."""

from gateway.config.load import Config, load
from gateway.config.one_device import load_device
from gateway.config.problems import ConfigError, Problem
from gateway.config.schema import config_schema
from gateway.config.secrets import SecretError, check_secrets, read_secret

__all__ = ["Config", "ConfigError", "Problem", "SecretError", "check_secrets", "config_schema", "load", "load_device", "read_secret"]
