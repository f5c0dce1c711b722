//! What every layer keeps, kept by this one in each of its forms.
