pub(crate) mod script;
pub(crate) mod view;
