"""Pure decisions: no I/O, no clock, no await. The caller brings what is known and acts after."""
