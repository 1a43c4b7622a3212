//! Each program beside the clients and servers that it is for.

mod axum;
mod common;
mod crawler;
mod https;
mod postgres;
mod redis;
mod websocket;
