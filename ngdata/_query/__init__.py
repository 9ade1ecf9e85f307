"""Arguments to SQL, pure: every read as a `Query` value, built without I/O."""
