"""`vidssl doctor`: what works on this machine, and whether the processes of a run agree before it begins."""
