//! The controller's side of every target: traits, events, the wire's client, engine delivery.
