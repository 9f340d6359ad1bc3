"""From generated source to native code that can be called, and the kernels it calls; knows no graphs."""
