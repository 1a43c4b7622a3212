module side-by-side

go 1.19
