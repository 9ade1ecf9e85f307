"""Pure query building: each read as a `Query` value made of checked arguments, without I/O."""
