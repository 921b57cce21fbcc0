//! Catalogs.
