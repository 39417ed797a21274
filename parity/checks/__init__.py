"""The layers of the cake, one file each; every file offers ``checks()``, its part of the list."""
