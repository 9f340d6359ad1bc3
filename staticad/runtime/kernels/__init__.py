"""Native functions that generated code calls; knows neither graphs nor the code that calls it."""
