//! gatehouse.toml as types: parse whole, check whole, print canonical.
