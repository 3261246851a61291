"""Python libraries by calls that only single goals need: lines, ranges, trees."""
