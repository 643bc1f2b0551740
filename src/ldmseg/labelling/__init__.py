"""Photos in, written maps out: photos are checked before anything is computed, and maps are written as they come."""
