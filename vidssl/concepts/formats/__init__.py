"""The formats in which projects keep class names and descriptions: reading and writing them."""
