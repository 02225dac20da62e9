//! Documents of any bytes, a line each: cut into units, sketched, refused where they are no text.

use aisec_detect::text::{Documents, MinHash, Unit};
use aisec_numeric::Cancel;

pub fn run(data: &[u8]) {
    let mut documents = Documents::new(7);
    for document in data.split(|&byte| byte == b'\n') {
        documents.push(document).expect("it is short");
    }
    for unit in [Unit::Word, Unit::Char, Unit::Byte] {
        let hash = MinHash::new(unit, 3, 16, 1);
        let mut readable = true;
        for index in 0..documents.len() {
            match hash.shingle_set(&documents, index) {
                Ok(shingles) => assert!(shingles.is_sorted() && shingles.len() <= data.len() + 1),
                Err(error) => {
                    readable = false;
                    assert!(unit != Unit::Byte && !error.to_string().contains('\n'), "{error}");
                }
            }
        }
        let found = hash.signatures(&documents, &Cancel::new());
        assert_eq!(found.is_ok(), readable, "{unit:?}");
    }
}
