//! Structs that are the wire's own bytes.

/// Declares structs with the layout of the wire: `name: Type = offset`, size after the name,
/// and for a message the type that its first byte names, which becomes `KIND`.
///
/// Each gets `repr(C)` and zerocopy's derives (`Unaligned`, so any byte slice of the right length
/// is one), and the compiler checks the size and every offset against the specification's table.
macro_rules! layout {
    ($(
        $(#[$meta:meta])*
        pub struct $Name:ident: $size:literal $(, kind $kind:literal)? {
            $( $(#[$field_meta:meta])* $field:ident: $Type:ty = $offset:literal, )*
        }
    )*) => {$(
        $(#[$meta])*
        #[derive(
            Clone, Copy, Debug, PartialEq, Eq, Hash,
            zerocopy::FromBytes, zerocopy::IntoBytes, zerocopy::Immutable,
            zerocopy::KnownLayout, zerocopy::Unaligned,
        )]
        #[repr(C)]
        pub struct $Name {
            $( $(#[$field_meta])* pub $field: $Type, )*
        }
        $(impl $Name {
            /// The message's type.
            pub const KIND: u8 = $kind;
        })?
        const _: () = {
            assert!(size_of::<$Name>() == $size);
            assert!(align_of::<$Name>() == 1);
            $( assert!(core::mem::offset_of!($Name, $field) == $offset); )*
        };
    )*};
}
pub(crate) use layout;
