"""The configuration: its frozen classes, and how one TOML file becomes them."""
