//! Holds nothing: the tests are in `it/`, and talk to an orchestrator as its users do.
