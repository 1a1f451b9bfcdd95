//! Issues and verifies tokens: exports `zlh:identity/{issuer,verifier}@1.0.0` and serves no route.
//!
//! It holds no keys of its own. It inherits the variables of the component that it is composed into:
//! `token_public_keys` (a JWK set) lets it verify, `token_signing_keys` (an array of private JWKs) lets it
//! issue the kinds that are in it. The rules are in [`zlh_authn::token`](../zlh_authn/token/index.html).
//!
//! Contract test: `tests/contract/identity.rs`.

#[cfg(target_family = "wasm")]
mod entry;
