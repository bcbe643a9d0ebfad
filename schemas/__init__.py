"""What crosses a boundary: messages, entity state, settings, and how they are encoded. No I/O, no clock, no prompts."""
