"""What an encoder knows of objects, without training: labels carried along a video, boxes followed, identities kept."""
