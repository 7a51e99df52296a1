"""Public packages that carry real pictures, drawings, tables or recordings, one reader each."""
