//! JSON of images, written so that equal things give equal bytes.

use charly_ir::Digest;
use oci_spec::image::Descriptor;
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::StoreError;

/// Writes JSON with every object's keys sorted: some of them are kept in maps that have no order.
pub(super) fn bytes(value: &impl Serialize) -> Result<Vec<u8>, StoreError> {
    let invalid = |source| StoreError::Json { what: "what is to be stored".into(), source };
    let mut value = serde_json::to_value(value).map_err(invalid)?;
    value.sort_all_objects();
    serde_json::to_vec(&value).map_err(invalid)
}

pub(super) fn parse<T: DeserializeOwned>(bytes: &[u8], what: &str) -> Result<T, StoreError> {
    serde_json::from_slice(bytes).map_err(|source| StoreError::Json { what: what.to_owned(), source })
}

/// Writes a digest as images do.
pub(crate) fn to_oci(digest: &Digest) -> oci_spec::image::Digest {
    digest
        .to_string()
        .parse::<oci_spec::image::Sha256Digest>()
        .map_or_else(|_| unreachable!("a digest has 64 digits"), Into::into)
}

/// Reads the digest that a descriptor has; only SHA-256 is spoken here.
pub(crate) fn of_oci(descriptor: &Descriptor) -> Result<Digest, StoreError> {
    let digest = descriptor.as_digest_sha256().and_then(|digest| digest.parse().ok());
    digest.ok_or_else(|| StoreError::Digest { digest: descriptor.digest().to_string() })
}
