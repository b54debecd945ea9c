//! ServiceAccount tokens of an issuer of the test's own.

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

/// Signs tokens as a cluster's API server does.
pub struct Issuer {
    pub url: String,
    key: EcdsaKeyPair,
}

impl Issuer {
    pub fn new(url: &str) -> Self {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        Self {
            url: url.to_owned(),
            key,
        }
    }

    /// The public key as the issuer publishes it.
    pub fn jwks(&self) -> Value {
        // An uncompressed point: 4, x, y.
        let point = self.key.public_key().as_ref();
        let encode =
            |range| URL_SAFE_NO_PAD.encode(point.get::<std::ops::Range<usize>>(range).unwrap());
        json!({"keys": [{"kty": "EC", "crv": "P-256", "alg": "ES256", "use": "sig", "kid": "1", "x": encode(1..33), "y": encode(33..65)}]})
    }

    /// A token of a ServiceAccount (`NAMESPACE:NAME`) for one audience, good for `seconds` from now.
    pub fn token(&self, service_account: &str, audience: &str, seconds: i64) -> String {
        let now = Timestamp::now().as_second();
        let claims = json!({
            "iss": self.url,
            "sub": format!("system:serviceaccount:{service_account}"),
            "aud": [audience],
            "iat": now,
            "nbf": now - 60,
            "exp": now + seconds,
        });
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let signed = format!(
            "{}.{}",
            encode(json!({"alg": "ES256", "kid": "1", "typ": "JWT"})),
            encode(claims)
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), signed.as_bytes())
            .unwrap();
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }
}
