"""What the shop sells, and what has been ordered."""

from django.db import models


class Article(models.Model):
    name = models.TextField(unique=True)
    price = models.IntegerField()
    left = models.IntegerField()


class Order(models.Model):
    article = models.TextField()
    price = models.IntegerField()
    packed = models.BooleanField(default=False)

    def as_json(self):
        return {"number": self.pk, "article": self.article, "price": self.price, "packed": self.packed}
