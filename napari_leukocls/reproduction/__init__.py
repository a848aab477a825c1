"""The papers' experiments from data to tables: trained, measured, compared, explained, beside the papers' numbers."""
