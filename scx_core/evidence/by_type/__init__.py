"""All evidence for the circuit of a cell type, measured once, saved, and read by tables, report and page."""
