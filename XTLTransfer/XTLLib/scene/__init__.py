"""The only room that knows MRML: nodes <-> cases, results -> nodes."""
