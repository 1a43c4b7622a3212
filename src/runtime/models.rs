//! Models of idling.
