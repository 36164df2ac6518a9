"""What bench/run is made of: processes, contestants, tools, rows, report, plot."""
