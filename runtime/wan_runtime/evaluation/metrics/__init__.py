"""Numbers that say how good a clip is, alone or beside a reference."""
