//! [`Columns`]: rows of both databases, read by the number of a column.

use sqlx::{Error, Row as _};

/// Defines [`Columns`], and implements it where both databases have the same type.
macro_rules! columns {
    ($($name:ident: $type:ty),+ $(,)?) => {
        /// A row, whose columns are read in the types of the store.
        pub(crate) trait Columns {
            $(fn $name(&self, column: usize) -> Result<$type, Error>;)+
            fn flag(&self, column: usize) -> Result<bool, Error>;
            fn id(&self, column: usize) -> Result<u128, Error>;
            fn id_or_null(&self, column: usize) -> Result<Option<u128>, Error>;
        }

        #[cfg(feature = "postgres")]
        impl Columns for sqlx::postgres::PgRow {
            $(fn $name(&self, column: usize) -> Result<$type, Error> {
                self.try_get(column)
            })+

            fn flag(&self, column: usize) -> Result<bool, Error> {
                self.try_get(column)
            }

            fn id(&self, column: usize) -> Result<u128, Error> {
                Ok(self.try_get::<sqlx::types::Uuid, _>(column)?.as_u128())
            }

            fn id_or_null(&self, column: usize) -> Result<Option<u128>, Error> {
                let id = self.try_get::<Option<sqlx::types::Uuid>, _>(column)?;
                Ok(id.map(|id| id.as_u128()))
            }
        }

        #[cfg(feature = "sqlite")]
        impl Columns for sqlx::sqlite::SqliteRow {
            $(fn $name(&self, column: usize) -> Result<$type, Error> {
                self.try_get(column)
            })+

            fn flag(&self, column: usize) -> Result<bool, Error> {
                Ok(self.try_get::<i64, _>(column)? != 0)
            }

            fn id(&self, column: usize) -> Result<u128, Error> {
                let bytes: &[u8] = self.try_get(column)?;
                let bytes = bytes.try_into().map_err(|_| {
                    let length = bytes.len();
                    Error::Decode(format!("an identifier of {length} bytes, not of 16").into())
                })?;
                Ok(u128::from_be_bytes(bytes))
            }

            fn id_or_null(&self, column: usize) -> Result<Option<u128>, Error> {
                match self.try_get::<Option<&[u8]>, _>(column)? {
                    Some(_) => self.id(column).map(Some),
                    None => Ok(None),
                }
            }
        }
    };
}

columns! {
    int: i64,
    int_or_null: Option<i64>,
    text: String,
    text_or_null: Option<String>,
    bytes: Vec<u8>,
    bytes_or_null: Option<Vec<u8>>,
}
