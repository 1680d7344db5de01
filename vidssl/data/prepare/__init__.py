"""Videos written anew in a form that is cheap to train on."""
