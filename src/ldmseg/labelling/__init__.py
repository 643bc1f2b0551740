"""From photos to written maps. Photos are checked before anything is computed, and each batch is written when it is done."""
