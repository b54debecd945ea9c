//! Tokens: those that Azure hands out, and the check of those that a cluster hands out.

use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Content;

/// A token of Entra ID that was handed out.
#[derive(Clone, Debug)]
pub(super) struct Aad {
    pub(super) client_id: String,
    pub(super) tenant_id: String,
    pub(super) audience: String,
    pub(super) expires_at: i64,
}

/// The claims of a token, not verified.
pub fn claims(token: &str) -> Value {
    let payload = token.split('.').nth(1).expect("three parts");
    let payload = URL_SAFE_NO_PAD.decode(payload).unwrap();
    serde_json::from_slice(&payload).unwrap()
}

/// A token with these claims. What makes it good is that its issuer knows it.
pub(super) fn make(claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let mut random = [0; 24];
    aws_lc_rs::rand::fill(&mut random).unwrap();
    let header = encode(&json!({"alg": "RS256", "typ": "JWT"}));
    format!(
        "{header}.{}.{}",
        encode(claims),
        URL_SAFE_NO_PAD.encode(random)
    )
}

pub(super) fn now() -> i64 {
    Timestamp::now().as_second()
}

/// Hands out a token of Entra ID.
pub fn issue(content: &mut Content, tenant_id: &str, client_id: &str, audience: &str) -> String {
    let expires_at = now() + 3600;
    let token = make(&json!({
        "aud": audience, "iss": format!("https://sts.windows.net/{tenant_id}/"), "tid": tenant_id,
        "appid": client_id, "oid": client_id.replace('0', "f"), "exp": expires_at,
    }));
    let aad = Aad {
        client_id: client_id.to_owned(),
        tenant_id: tenant_id.to_owned(),
        audience: audience.to_owned(),
        expires_at,
    };
    content.asked_for.push(audience.to_owned());
    content.issued.insert(token.clone(), aad);
    token
}

/// Whether a signature of the issuer's published keys is on the token.
pub(super) fn is_signed(token: &str, jwks: &Value) -> bool {
    let Some((signed, signature)) = token.rsplit_once('.') else {
        return false;
    };
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).ok();
    let header = signed.split('.').next().and_then(decode);
    let header: Value = serde_json::from_slice(&header.unwrap_or_default()).unwrap_or_default();
    let Some(signature) = decode(signature) else {
        return false;
    };
    let keys = jwks["keys"].as_array().map_or(&[][..], Vec::as_slice);
    let field = |key: &Value, name: &str| key[name].as_str().and_then(decode).unwrap_or_default();
    keys.iter()
        .filter(|key| key["kid"] == header["kid"] && key["alg"] == header["alg"])
        .any(|key| match key["alg"].as_str() {
            Some("RS256") => RsaPublicKeyComponents {
                n: field(key, "n"),
                e: field(key, "e"),
            }
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &signature)
            .is_ok(),
            Some("ES256") => {
                let point = [vec![4], field(key, "x"), field(key, "y")].concat();
                UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                    .verify(signed.as_bytes(), &signature)
                    .is_ok()
            }
            _ => false,
        })
}
