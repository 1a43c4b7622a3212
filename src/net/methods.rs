//! Methods that several kinds of sockets have, each written once, with its docs. `$setup` are the first lines of the
//! examples, which make the sockets.

/// Of every socket; the setup makes `socket`, and `$wait` is an expression that waits.
macro_rules! socket_methods {
    ($std:ty, $setup:literal, $wait:literal) => {
        /// Has calls give `WouldBlock` in place of waits, or wait again. It is a property of this value; the descriptor
        /// itself is never blocking.
        ///
        /// # Errors
        ///
        /// None. It is a result as with std.
        ///
        /// # Examples
        ///
        /// ```
        /// # use std::io::Read;
        #[doc = $setup]
        /// socket.set_nonblocking(true)?;
        #[doc = concat!("let refused = ", $wait, ".unwrap_err();")]
        /// assert_eq!(refused.kind(), std::io::ErrorKind::WouldBlock);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn set_nonblocking(&self, nonblocking: bool) -> std::io::Result<()> {
            self.socket.set_nonblocking(nonblocking);
            Ok(())
        }

        #[doc = concat!("As [`", stringify!($std), "::take_error`].")]
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// assert!(socket.take_error()?.is_none());
        /// # std::io::Result::Ok(())
        /// ```
        pub fn take_error(&self) -> std::io::Result<Option<std::io::Error>> {
            self.socket.io().take_error()
        }
    };
}

/// Of an internet socket; the setup makes `socket`.
macro_rules! ttl_methods {
    ($std:ty, $setup:literal) => {
        #[doc = concat!("As [`", stringify!($std), "::set_ttl`].")]
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// socket.set_ttl(100)?;
        /// assert_eq!(socket.ttl()?, 100);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn set_ttl(&self, ttl: u32) -> std::io::Result<()> {
            self.socket.io().set_ttl(ttl)
        }

        #[doc = concat!("As [`", stringify!($std), "::ttl`].")]
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// See [`set_ttl`](Self::set_ttl).
        pub fn ttl(&self) -> std::io::Result<u32> {
            self.socket.io().ttl()
        }
    };
}

/// Of a socket that is read and written, and with them those of every socket; the setup makes `socket`, and `$read` is an
/// expression that waits for input.
macro_rules! timeout_methods {
    ($std:ty, $setup:literal, $read:literal) => {
        $crate::net::methods::socket_methods!($std, $setup, $read);

        /// Limits each call that reads or receives to so much time, or not at all. It is a property of this value: a
        /// [clone](Self::try_clone) has its own from then on. For a limit of several calls together see
        /// [`timeout`](crate::timeout).
        ///
        /// # Errors
        ///
        /// `InvalidInput` for zero.
        ///
        /// # Examples
        ///
        /// ```
        /// # use std::io::Read;
        #[doc = $setup]
        /// socket.set_read_timeout(Some(std::time::Duration::from_millis(1)))?;
        #[doc = concat!("let late = ", $read, ".unwrap_err();")]
        /// assert_eq!(late.kind(), std::io::ErrorKind::WouldBlock);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn set_read_timeout(&self, limit: Option<std::time::Duration>) -> std::io::Result<()> {
            self.socket.set_timeout(Side::Read, limit)
        }

        /// As [`set_read_timeout`](Self::set_read_timeout), of calls that write or send.
        ///
        /// # Errors
        ///
        /// `InvalidInput` for zero.
        ///
        /// # Examples
        ///
        /// ```
        /// use std::time::Duration;
        ///
        #[doc = $setup]
        /// socket.set_write_timeout(Some(Duration::from_secs(1)))?;
        /// assert_eq!(socket.write_timeout()?, Some(Duration::from_secs(1)));
        /// # std::io::Result::Ok(())
        /// ```
        pub fn set_write_timeout(&self, limit: Option<std::time::Duration>) -> std::io::Result<()> {
            self.socket.set_timeout(Side::Write, limit)
        }

        /// The limit of calls that read or receive.
        ///
        /// # Errors
        ///
        /// None. It is a result as with std.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// assert_eq!(socket.read_timeout()?, None);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn read_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            Ok(self.socket.timeout(Side::Read))
        }

        /// The limit of calls that write or send.
        ///
        /// # Errors
        ///
        /// None. It is a result as with std.
        ///
        /// # Examples
        ///
        /// See [`set_write_timeout`](Self::set_write_timeout).
        pub fn write_timeout(&self) -> std::io::Result<Option<std::time::Duration>> {
            Ok(self.socket.timeout(Side::Write))
        }
    };
}

/// Of a stream; the setup makes the two ends of a connection, `client` and `server`.
macro_rules! stream_methods {
    ($std:ty, $setup:literal) => {
        /// As [`Read::read`](std::io::Read::read), for futures. Of several futures that poll one stream to read from it,
        /// the one that has polled last is woken.
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// drop(client);
        /// let mut buffer = [0; 16];
        /// let end = std::future::poll_fn(|context| server.poll_read(context, &mut buffer));
        /// assert_eq!(coro::wait(end)?, 0);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn poll_read(
            &self,
            context: &mut std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let (length, read) = (buffer.len(), |io: &$std| $crate::net::socket::recv(io, buffer));
            self.socket.poll_transfer(Side::Read, context, length, read)
        }

        /// As [`Write::write`](std::io::Write::write), for futures. Of several futures that poll one stream to write to
        /// it, the one that has polled last is woken.
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// let written = std::future::poll_fn(|context| client.poll_write(context, b"hello"));
        /// assert_eq!(coro::wait(written)?, 5);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn poll_write(
            &self,
            context: &mut std::task::Context<'_>,
            buffer: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let (length, write) = (buffer.len(), |io: &$std| $crate::net::socket::send(io, buffer));
            self.socket.poll_transfer(Side::Write, context, length, write)
        }

        /// As [`Write::write_vectored`](std::io::Write::write_vectored), for futures; otherwise as
        /// [`poll_write`](Self::poll_write).
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        /// use std::io::IoSlice;
        ///
        #[doc = $setup]
        /// let parts = [IoSlice::new(b"hello, "), IoSlice::new(b"world")];
        /// let written = std::future::poll_fn(|context| client.poll_write_vectored(context, &parts));
        /// assert_eq!(coro::wait(written)?, 12);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn poll_write_vectored(
            &self,
            context: &mut std::task::Context<'_>,
            buffers: &[std::io::IoSlice<'_>],
        ) -> std::task::Poll<std::io::Result<usize>> {
            let length = buffers.iter().map(|buffer| buffer.len()).sum();
            let write = |mut io: &$std| io.write_vectored(buffers);
            self.socket.poll_transfer(Side::Write, context, length, write)
        }

        /// Ends one direction, or both. Whoever waits for it goes on: a read finds the end, a write an error.
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        /// use std::io::Read;
        ///
        #[doc = $setup]
        /// client.shutdown(std::net::Shutdown::Write)?;
        /// assert_eq!((&server).read(&mut [0])?, 0);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn shutdown(&self, how: std::net::Shutdown) -> std::io::Result<()> {
            self.socket.io().shutdown(how)
        }
    };
}

/// Of a socket for datagrams; the setup makes two of which `one` is connected to `other`. `$recv` and `$recv_from` are the
/// calls that do not wait.
macro_rules! datagram_methods {
    ($address:ty, $recv:path, $recv_from:path, $setup:literal) => {
        /// Receives a datagram, and gives its length. What is longer than `buffer` is cut, and the rest of it is lost. A
        /// datagram may be empty.
        ///
        /// # Errors
        ///
        /// What the kernel says; `WouldBlock` when the [read timeout](Self::set_read_timeout) is over.
        ///
        /// # Panics
        ///
        /// Unwinds, without calling the panic hook, when the coroutine that waits is cancelled or a
        /// [`timeout`](crate::timeout) around it elapses; no datagram is lost by that. In a
        /// [`no_suspend`](crate::no_suspend()), where it would wait.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// one.send(b"hello")?;
        /// one.send(b"")?;
        /// let mut buffer = [0; 4];
        /// assert_eq!(other.recv(&mut buffer)?, 4);
        /// assert_eq!(&buffer, b"hell");
        /// assert_eq!(other.recv(&mut buffer)?, 0);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn recv(&self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.socket.run(Side::Read, |io| $recv(io, buffer), unknown)
        }

        /// As [`recv`](Self::recv); gives also the address of the sender.
        ///
        /// # Errors
        ///
        /// As [`recv`](Self::recv).
        ///
        /// # Panics
        ///
        /// As [`recv`](Self::recv).
        ///
        /// # Examples
        ///
        /// See the example of the type.
        pub fn recv_from(&self, buffer: &mut [u8]) -> std::io::Result<(usize, $address)> {
            self.socket.run(Side::Read, |io| $recv_from(io, buffer), unknown)
        }

        /// As [`recv`](Self::recv), for futures. Of several futures that poll one socket to receive from it, the one
        /// that has polled last is woken.
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// one.send(b"hello")?;
        /// let mut buffer = [0; 16];
        /// let received = std::future::poll_fn(|context| other.poll_recv(context, &mut buffer));
        /// assert_eq!(coro::wait(received)?, 5);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn poll_recv(
            &self,
            context: &mut std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            self.socket.poll(Side::Read, context, |io| $recv(io, buffer), unknown)
        }

        /// As [`recv_from`](Self::recv_from), for futures; otherwise as [`poll_recv`](Self::poll_recv).
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// one.send(b"hello")?;
        /// let mut buffer = [0; 16];
        /// let received = std::future::poll_fn(|context| other.poll_recv_from(context, &mut buffer));
        /// let (length, _address) = coro::wait(received)?;
        /// assert_eq!(length, 5);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn poll_recv_from(
            &self,
            context: &mut std::task::Context<'_>,
            buffer: &mut [u8],
        ) -> std::task::Poll<std::io::Result<(usize, $address)>> {
            self.socket.poll(Side::Read, context, |io| $recv_from(io, buffer), unknown)
        }

        /// Sends a datagram to the peer that this socket is [connected](Self::connect) to.
        ///
        /// # Errors
        ///
        /// What the kernel says; `WouldBlock` when the [write timeout](Self::set_write_timeout) is over.
        ///
        /// # Panics
        ///
        /// As [`recv`](Self::recv).
        ///
        /// # Examples
        ///
        /// See [`recv`](Self::recv).
        pub fn send(&self, buffer: &[u8]) -> std::io::Result<usize> {
            self.socket.run(Side::Write, |io| io.send(buffer), unknown)
        }

        /// As [`send`](Self::send), for futures. Of several futures that poll one socket to send from it, the one that
        /// has polled last is woken.
        ///
        /// # Errors
        ///
        /// What the kernel says.
        ///
        /// # Examples
        ///
        /// ```
        #[doc = $setup]
        /// let sent = std::future::poll_fn(|context| one.poll_send(context, b"hello"));
        /// assert_eq!(coro::wait(sent)?, 5);
        /// assert_eq!(other.recv(&mut [0; 16])?, 5);
        /// # std::io::Result::Ok(())
        /// ```
        pub fn poll_send(
            &self,
            context: &mut std::task::Context<'_>,
            buffer: &[u8],
        ) -> std::task::Poll<std::io::Result<usize>> {
            self.socket.poll(Side::Write, context, |io| io.send(buffer), unknown)
        }
    };
}

pub(super) use {datagram_methods, socket_methods, stream_methods, timeout_methods, ttl_methods};
