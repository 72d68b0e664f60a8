//! The protocols that a feed can speak: one line each in [`Protocol`]'s table, one module each.

use super::arbiter::join::SnapshotPart;
use super::arbiter::{self, Arbiter};
use super::channel::{Channel, FeedSpec};
use super::deep10::DeepFeed;
use super::itch50::ItchFeed;
use super::publisher::Publisher;
use super::tops16::TopsFeed;
use super::trading_day::TradingDays;
use super::translator::Translator;
use crate::arena::{Arena, ArenaError};

/// Declares [`Protocol`], and the feed of whatever protocol it is: `Variant: Translator`.
///
/// Which protocol a packet's feed speaks is asked once a packet, by one branch. No trait object:
/// each protocol's way from there on is compiled as one piece.
macro_rules! protocols {
    ( $( $(#[$meta:meta])* $Variant:ident: $Feed:ident, )* ) => {
        /// A protocol that a feed can speak.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Protocol {
            $( $(#[$meta])* $Variant, )*
        }

        impl Protocol {
            /// All protocols.
            pub const ALL: [Protocol; [$( Protocol::$Variant ),*].len()] =
                [$( Protocol::$Variant ),*];

            /// The protocol's name in configuration and status.
            pub const fn name(self) -> &'static str {
                match self {
                    $( Protocol::$Variant => <$Feed<'static> as Translator<'static>>::NAME, )*
                }
            }

            /// The DBN publisher id (venue and dataset) of the protocol's records, unless configured
            /// otherwise.
            pub const fn publisher_id(self) -> u16 {
                match self {
                    $(
                        Protocol::$Variant =>
                            <$Feed<'static> as Translator<'static>>::PUBLISHER_ID,
                    )*
                }
            }

            /// Whether a feed of it can join by a snapshot.
            pub const fn has_snapshots(self) -> bool {
                match self {
                    $( Protocol::$Variant => <$Feed<'static> as Translator<'static>>::SNAPSHOTS, )*
                }
            }

            /// Whether a datagram's payload is a packet of it, as far as transport and message lengths
            /// tell.
            pub fn recognises(self, payload: &[u8]) -> bool {
                match self {
                    $( Protocol::$Variant => <$Feed<'_>>::check(payload).is_ok(), )*
                }
            }

            /// Names of the causes for which the protocol's packets are malformed, by index.
            pub fn packet_error_name(self, cause: usize) -> &'static str {
                match self {
                    $( Protocol::$Variant => <$Feed<'_>>::packet_error_name(cause), )*
                }
            }
        }

        // Feeds differ in size, but there are at most sixteen, made once.
        #[allow(clippy::large_enum_variant)]
        #[derive(Debug)]
        pub(crate) enum ProtocolFeed<'m> {
            $( $Variant($Feed<'m>), )*
        }

        impl<'m> ProtocolFeed<'m> {
            /// A feed of `protocol`; see [`Translator::new`].
            pub(crate) fn new(
                protocol: Protocol,
                channel: Channel<'m>,
                spec: &FeedSpec,
                days: &TradingDays,
                arena: &mut Arena<'m>,
            ) -> Result<Self, ArenaError> {
                Ok(match protocol {
                    $(
                        Protocol::$Variant =>
                            ProtocolFeed::$Variant($Feed::new(channel, spec, days, arena)?),
                    )*
                })
            }

            /// Says in the segment how full the memory of the feed's books is.
            pub(crate) fn publish_usage(&mut self) {
                match self {
                    $(
                        ProtocolFeed::$Variant(translator) => {
                            let usage = translator.usage();
                            translator.channel().publish_usage(&usage);
                        }
                    )*
                }
            }

            /// The protocol-independent half.
            pub(crate) fn channel(&mut self) -> &mut Channel<'m> {
                match self {
                    $( ProtocolFeed::$Variant(translator) => translator.channel(), )*
                }
            }

            /// [`arbiter::on_payload`].
            #[inline]
            pub(crate) fn on_payload(
                &mut self,
                arbiter: &mut Arbiter<'m>,
                line: usize,
                payload: &[u8],
                publisher: &mut Publisher<'m>,
            ) {
                match self {
                    $(
                        ProtocolFeed::$Variant(translator) =>
                            arbiter::on_payload(translator, arbiter, line, payload, publisher),
                    )*
                }
            }

            /// [`arbiter::expire`].
            pub(crate) fn expire(
                &mut self,
                arbiter: &mut Arbiter<'m>,
                now: u64,
                publisher: &mut Publisher<'m>,
            ) {
                match self {
                    $(
                        ProtocolFeed::$Variant(translator) =>
                            arbiter::expire(translator, arbiter, now, publisher),
                    )*
                }
            }

            /// [`arbiter::on_snapshot`].
            pub(crate) fn on_snapshot(
                &mut self,
                arbiter: &mut Arbiter<'m>,
                ticket: u32,
                part: &SnapshotPart<'_>,
                publisher: &mut Publisher<'m>,
            ) {
                match self {
                    $(
                        ProtocolFeed::$Variant(translator) =>
                            arbiter::on_snapshot(translator, arbiter, ticket, part, publisher),
                    )*
                }
            }

            /// [`arbiter::finish`].
            pub(crate) fn finish(
                &mut self,
                arbiter: &mut Arbiter<'m>,
                publisher: &mut Publisher<'m>,
            ) {
                match self {
                    $(
                        ProtocolFeed::$Variant(translator) =>
                            arbiter::finish(translator, arbiter, publisher),
                    )*
                }
            }
        }
    };
}

protocols! {
    /// Nasdaq TotalView-ITCH 5.0 over MoldUDP64.
    Itch50: ItchFeed,
    /// IEX DEEP 1.0 over IEX-TP.
    Deep10: DeepFeed,
    /// IEX TOPS 1.6, or 1.5, over IEX-TP.
    Tops16: TopsFeed,
}

impl Protocol {
    /// The protocol of a name. The message format alone, such as `tops16`, is a name too.
    pub fn from_name(name: &str) -> Option<Protocol> {
        let format = |full: &'static str| full.split_once('-').map_or(full, |(format, _)| format);
        Self::ALL.into_iter().find(|protocol| {
            let full = protocol.name();
            name == full || name == format(full)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::Protocol;

    #[test]
    fn a_protocol_is_found_by_its_name_and_by_its_format_alone() {
        for protocol in Protocol::ALL {
            assert_eq!(Protocol::from_name(protocol.name()), Some(protocol));
        }
        let formats = ["itch50", "deep10", "tops16"].map(Protocol::from_name);
        assert_eq!(formats, Protocol::ALL.map(Some));
        for name in ["", "tops", "tops16-", "iextp", "tops16-moldudp64"] {
            assert_eq!(Protocol::from_name(name), None, "{name}");
        }
    }
}
