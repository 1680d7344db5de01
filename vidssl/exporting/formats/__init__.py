"""The formats an encoder can be written in. Each can write a folder, and read it again without what wrote it."""
